"""Sentences that make the text models misbehave, wherever they are in a prompt."""

FAILS_AT_ONCE = "Fail at once."
FAILS_MIDWAY = "Fail midway."  # after two pieces
GOES_ON = "Go on and on."  # fills the room there is, one piece every hundredth of a second
