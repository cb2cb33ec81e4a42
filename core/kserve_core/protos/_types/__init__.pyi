"""What type checkers know of the messages; there is nothing here at run time."""
