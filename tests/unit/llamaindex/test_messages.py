from __future__ import annotations

import base64
import io
import json

import pytest
from llama_index.core.base.llms.types import (
    AudioBlock,
    CachePoint,
    ChatMessage,
    CitableBlock,
    CitationBlock,
    DocumentBlock,
    ImageBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    VideoBlock,
)

from kserve_core.errors import ConfigurationError, UnsupportedParameterError
from llamaindex_kserve._messages import TEXT_ONLY, refuse_media, to_wire, tool_choice_on_wire

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def one(*blocks, role="user", **kwargs):
    options = {"send_reasoning": kwargs.pop("send_reasoning", False)}
    return to_wire([ChatMessage(role=role, blocks=list(blocks), additional_kwargs=kwargs)], runtime="vLLM", **options)[
        0
    ]


class TestRoles:
    @pytest.mark.parametrize(
        ("role", "wire"),
        [
            ("system", "system"),
            ("developer", "developer"),
            ("user", "user"),
            ("assistant", "assistant"),
            ("chatbot", "assistant"),
            ("model", "assistant"),
            ("tool", "tool"),
            ("function", "tool"),
        ],
    )
    def test_every_role_has_one_on_the_wire(self, role, wire):
        message = to_wire([ChatMessage(role=role, content="x")], runtime="vLLM")[0]
        assert message == {"role": wire, "content": "x"}

    def test_all_roles_of_the_framework_are_covered(self):
        for role in MessageRole:
            assert to_wire([ChatMessage(role=role, content="x")], runtime="vLLM")[0]["role"] in {
                "system",
                "developer",
                "user",
                "assistant",
                "tool",
            }


class TestText:
    def test_a_string_stays_a_string(self):
        assert to_wire([ChatMessage("hello")], runtime="vLLM") == [{"role": "user", "content": "hello"}]

    def test_text_blocks_are_joined_as_the_framework_joins_them(self):
        message = ChatMessage(blocks=[TextBlock(text="a"), TextBlock(text="b")])
        assert to_wire([message], runtime="vLLM")[0]["content"] == message.content == "a\nb"

    def test_an_empty_message_is_empty_text(self):
        assert one() == {"role": "user", "content": ""}

    def test_cache_points_mean_nothing_here(self):
        assert one(TextBlock(text="a"), CachePoint(cache_control={"type": "ephemeral"}))["content"] == "a"

    def test_citable_and_cited_text_is_text(self):
        citable = CitableBlock(title="t", source="s", content="cite me")
        cited = CitationBlock(cited_content="quoted", source="s", title="t", additional_location_info={"p": 1})
        assert one(citable, cited)["content"] == "cite me\nquoted"

    def test_messages_are_left_alone(self):
        messages = [ChatMessage(role="assistant", blocks=[ThinkingBlock(content="hm"), TextBlock(text="x")])]
        before = [message.model_copy(deep=True) for message in messages]
        to_wire(messages, runtime="vLLM", send_reasoning=True)
        assert messages == before


class TestMedia:
    def test_an_image_travels_as_a_data_url_with_its_type(self):
        part = one(TextBlock(text="look"), ImageBlock(image=PNG, detail="low"))["content"][1]
        assert part["image_url"]["url"] == "data:image/png;base64," + base64.b64encode(PNG).decode()
        assert part["image_url"]["detail"] == "low"

    def test_an_image_file_is_read(self, tmp_path):
        path = tmp_path / "pixel.png"
        path.write_bytes(PNG)
        url = one(ImageBlock(path=path))["content"][0]["image_url"]["url"]
        assert url == "data:image/png;base64," + base64.b64encode(PNG).decode()

    def test_an_image_url_is_passed_on_not_fetched(self, monkeypatch):
        def refuse(*_args, **_kwargs):
            pytest.fail("a URL was fetched")

        monkeypatch.setattr("llama_index.core.base.llms.types.resolve_binary", refuse)
        monkeypatch.setattr("requests.get", refuse)
        url = "http://169.254.169.254/latest/cat.png"
        assert one(ImageBlock(url=url))["content"] == [{"type": "image_url", "image_url": {"url": url}}]

    def test_an_open_file_can_be_sent_twice(self):
        block = ImageBlock(image=io.BytesIO(PNG), image_mimetype="image/png")
        assert one(block) == one(block)
        assert base64.b64encode(PNG).decode() in one(block)["content"][0]["image_url"]["url"]

    def test_audio_and_video(self):
        audio = one(AudioBlock(audio=b"RIFF....WAVE", format="wav"))["content"][0]
        assert audio == {
            "type": "input_audio",
            "input_audio": {"data": base64.b64encode(b"RIFF....WAVE").decode(), "format": "wav"},
        }
        heard = one(AudioBlock(url="https://example.com/a.wav"))["content"][0]
        assert heard == {"type": "audio_url", "audio_url": {"url": "https://example.com/a.wav"}}
        seen = one(VideoBlock(url="https://example.com/a.mp4"))["content"][0]
        assert seen == {"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}}
        sent = one(VideoBlock(video=b"\x00\x01moov", video_mimetype="video/mp4"))["content"][0]
        assert sent["video_url"]["url"].startswith("data:video/mp4;base64,")

    def test_a_document_is_refused_with_advice(self):
        with pytest.raises(UnsupportedParameterError, match="reader"):
            one(DocumentBlock(data=b"%PDF-1.4"))

    def test_a_text_only_runtime_says_so(self):
        message = ChatMessage(blocks=[ImageBlock(image=PNG)])
        with pytest.raises(UnsupportedParameterError, match=r"TGIS takes no image blocks \(text only\)"):
            to_wire([message], runtime="TGIS", media=TEXT_ONLY)
        with pytest.raises(UnsupportedParameterError, match="TGIS"):
            refuse_media([message], "TGIS")

    def test_an_empty_block_is_an_error(self):
        with pytest.raises(ConfigurationError, match="neither data"):
            one(ImageBlock())

    def test_a_vanished_file_is_a_clear_error(self, tmp_path):
        path = tmp_path / "gone.png"
        path.write_bytes(PNG)
        block = ImageBlock(path=path)
        path.unlink()
        with pytest.raises(ConfigurationError, match="cannot be read"):
            one(block)


class TestTools:
    def test_calls_of_the_history_have_their_arguments_as_json_text(self):
        message = one(
            ToolCallBlock(tool_call_id="c1", tool_name="f", tool_kwargs={"city": "Zürich"}),
            ToolCallBlock(tool_call_id="c2", tool_name="g", tool_kwargs='{"x": 1}'),
            ToolCallBlock(tool_call_id="c3", tool_name="h", tool_kwargs=""),
            role="assistant",
        )
        assert message["content"] is None
        assert [call["id"] for call in message["tool_calls"]] == ["c1", "c2", "c3"]
        arguments = [call["function"]["arguments"] for call in message["tool_calls"]]
        assert all(isinstance(text, str) for text in arguments)
        assert [json.loads(text) for text in arguments] == [{"city": "Zürich"}, {"x": 1}, {}]

    def test_blocks_win_over_the_copy_in_additional_kwargs(self):
        copied = [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
        message = one(
            ToolCallBlock(tool_call_id="c1", tool_name="f", tool_kwargs={}), role="assistant", tool_calls=copied
        )
        assert len(message["tool_calls"]) == 1

    def test_calls_kept_by_older_integrations_are_read(self):
        kept = [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}]
        assert one(role="assistant", tool_calls=kept)["tool_calls"] == kept

    def test_a_tool_result_names_its_call(self):
        message = one(TextBlock(text="21 degrees"), role="tool", tool_call_id="c1")
        assert message == {"role": "tool", "tool_call_id": "c1", "content": "21 degrees"}

    @pytest.mark.parametrize(
        ("given", "required", "wire"),
        [
            (None, False, None),
            (None, True, "required"),
            ("auto", True, "auto"),
            ("none", False, "none"),
            ("any", False, "required"),
            ("search", False, {"type": "function", "function": {"name": "search"}}),
            ({"type": "function", "function": {"name": "f"}}, True, {"type": "function", "function": {"name": "f"}}),
        ],
    )
    def test_tool_choices(self, given, required, wire):
        assert tool_choice_on_wire(given, required=required) == wire


class TestReasoning:
    def test_earlier_thoughts_stay_here_unless_asked_for(self):
        blocks = [ThinkingBlock(content="hm"), TextBlock(text="4")]
        assert one(*blocks, role="assistant") == {"role": "assistant", "content": "4"}
        sent = one(*blocks, role="assistant", send_reasoning=True)
        assert sent == {"role": "assistant", "content": "4", "reasoning": "hm"}
