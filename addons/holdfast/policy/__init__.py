"""The rules, without the machinery: pure functions and values, one rule to a file.

Nothing in here reads a clock, draws a random number, logs or does I/O: time and randomness are passed in. That is what
makes every rule testable in microseconds and readable next to the section of the RFC it follows.
"""
