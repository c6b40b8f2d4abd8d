"""The rules of replaying captured requests, as pure functions.

    verdict          what an answer to a replay means: delivered, to be tried again, or dead
    schedule         how long to wait before the next replay, in which retry topic, and how fast after an outage
    requests         what is sent: the captured request, without what belonged to its connection
    compare          how an answer differs from the one that was recorded, noise left out
    likeness         which texts count as the same: redaction marks, timestamps, UUIDs
    json_difference  where two JSON values differ

Times are in seconds. A random number is passed in as `jitter`, at least 0 and below 1.
"""
