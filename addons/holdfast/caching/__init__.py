"""What the addons `cache` and `surrogate` are made of.

settings    what a profile can say, and how that reads as rules of the policy
flow        between mitmproxy's flows and what the rules speak about
filling     who fetches a key, who waits for that, and since when the upstream has been failing for it
coalescing  one request upstream for a key at a time in this process
purging     purges, whoever asks: people, the method PURGE, unsafe requests, origins
rewarming   what a purge touched is fetched anew, most requested first
report      what is said of it all: Cache-Status, metrics
"""
