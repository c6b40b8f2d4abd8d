"""`holdfast captures`: what became of captured requests, whether or not a gateway is running, and what to do about it.

arguments   the command line
acting      from the command line to its action
asking      which captures are meant, and where they are
text        what people are shown; nothing that came from a client reaches the terminal as a control sequence
looking     list, show, export
sending     replay, redrive
discarding  discard
differing   diff
by_hand     one request to one server, from this process
"""
