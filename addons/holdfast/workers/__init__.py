"""`holdfast run --workers N`: several gateways on one port, which look like one.

A parent forks N workers. Each is an ordinary gateway with an event loop, upstream connections and an outbox file of its
own; the kernel shares connections out among them (SO_REUSEPORT). The parent serves nothing: it starts workers again,
passes signals on, and carries what they say to each other.

What is true at every moment:

1. One worker *leads*: it answers on the admin listener, for all, and replays. When it ends, another one does.
2. A purge is answered once every worker has it. One that starts has an empty memory, and hears of all that follows.
3. A counter never goes backwards: what a worker that has ended had counted when it was last asked, is kept.
4. When the parent ends, however it ends, the workers drain and end too.

    wire         what parent and workers say to each other
    figures      the metrics of all as one
    line         the parent's end of a worker's line
    crew         the parent's workers: forked, counted, started again
    questions    what workers ask each other, passed on; and the metrics, which the parent asks for itself
    supervisor   the parent's loop: signals, lines, ends
    ports        addresses that are taken before a worker is started
    worker       a worker's end: asks its siblings, and answers them
    membership   the addon that puts a worker's end into its chain
    whole        what the control surface shows, of all workers
    starting     the way from the command line into the loop
"""
