"""Which permission a refused token lacks, and the commands that grant it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kserve_core.discovery.facts import Discovery
from kserve_core.doctor.jwt import TokenFacts

_SAID = re.compile(
    r"""(?:user=|user )"?(?P<user>[^",)\s]+)"?.*?(?:verb=|cannot )"?(?P<verb>[a-z]+)"?,?.*?"""
    r"""resource[= ]"?(?P<resource>[a-z.]+)"?""",
    re.IGNORECASE,
)
_NAME = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SERVICE = re.compile(rf"(?P<service>{_NAME})\.(?P<namespace>{_NAME})\.svc(\.cluster\.local)?")
_ROLES = re.compile(r"-(predictor|transformer|metrics)$")
_GROUPS = {
    "inferenceservices": "serving.kserve.io",
    "llminferenceservices": "serving.kserve.io",
    "inferencegraphs": "serving.kserve.io",
    "models": "serving.opendatahub.io",
}
_RESOURCES = {
    "InferenceService": "inferenceservices",
    "LLMInferenceService": "llminferenceservices",
    "InferenceGraph": "inferencegraphs",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A permission.

    Attributes:
        verb: What may be done.
        resource: To which kind of thing.
        group: The kind's API group, `""` for the core one.
        name: To which of them; `""` if that is not known.
        namespace: Where; `""` if that is not known.
        subject: Whose permission it is: a user's name as Kubernetes has it, or `""`.
        said: Whether the server named verb and resource itself.
    """

    verb: str = "get"
    resource: str = "inferenceservices"
    group: str = "serving.kserve.io"
    name: str = ""
    namespace: str = ""
    subject: str = ""
    said: bool = False

    def to_dict(self) -> dict[str, str]:
        """The rule as JSON values."""
        return {
            "verb": self.verb,
            "resource": self.resource,
            "group": self.group,
            "name": self.name,
            "namespace": self.namespace,
            "subject": self.subject,
        }

    def commands(self) -> list[str]:
        """The commands that grant it; what is not known stands in `<...>`."""
        kind = f"{self.resource}.{self.group}" if self.group else self.resource
        name, namespace = self.name or "<name>", self.namespace or "<namespace>"
        role = f"{self.name or '<name>'}-caller"
        account = re.fullmatch(r"system:serviceaccount:([^:]+):([^:]+)", self.subject)
        if account is not None:
            who = f"--serviceaccount={account[1]}:{account[2]}"
        else:
            who = f"--user={self.subject}" if self.subject else "--serviceaccount=<namespace>:<serviceaccount>"
        only = "" if self.resource == "services" else f" --resource-name={name}"
        return [
            f"oc create role {role} -n {namespace} --verb={self.verb} --resource={kind}{only}",
            f"oc create rolebinding {role} -n {namespace} --role={role} {who}",
        ]


def needed_rule(message: str, host: str, token: TokenFacts | None, discovered: Discovery | None = None) -> Rule:
    """The permission a refused request lacked.

    Args:
        message: The server's words.
        host: The endpoint's host.
        token: What the token says about itself.
        discovered: What the cluster said about the service, if it was asked.
    """
    said = _SAID.search(message)
    resource, verb, subject = "inferenceservices", "get", token.subject if token else ""
    if said is not None:
        resource = said["resource"].partition(".")[0].lower() or resource
        verb, subject = said["verb"] or verb, said["user"] or subject
    elif discovered is not None:
        resource = _RESOURCES[discovered.kind]
    name, namespace = _service(host, token, discovered)
    return Rule(
        verb=verb,
        resource=resource,
        group=_GROUPS.get(resource, ""),
        name=name,
        namespace=namespace,
        subject=subject,
        said=said is not None,
    )


def _service(host: str, token: TokenFacts | None, discovered: Discovery | None) -> tuple[str, str]:
    """Name and namespace of the service behind a host, as far as they are to be known."""
    if discovered is not None:
        return discovered.name, discovered.namespace
    inside = _SERVICE.fullmatch(host)
    if inside is not None:
        return _ROLES.sub("", inside["service"]), inside["namespace"]
    # A route's default name is <name>-<namespace>; where one ends is known only if the namespace is.
    label = host.partition(".")[0]
    account = token.service_account if token is not None else None
    if account is not None and label.endswith(f"-{account[0]}"):
        return label[: -len(account[0]) - 1], account[0]
    return "", ""
