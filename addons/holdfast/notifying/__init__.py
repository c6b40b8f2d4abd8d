"""What is sent out to others by itself: notices of failing routes, and the outcomes of captures.

documents   the JSON of both
posting     one signed POST
targets     where notices go: webhooks, a topic
courier     notices on their way to one target: bounded, in order, tried again
callbacks   outcomes on their way to whoever asked for them: at least once, from a queue on the disk
"""
