"""The fast lane: hits of HTTP/1.1 clients, answered as soon as their header has come, before mitmproxy parses it.

A hit that has gone the ordinary way is remembered by the bytes of its request's header. The same bytes are answered
with the same response, as long as the cache would: its age, its Cache-Status and its request id are written anew, and
it is counted and logged as any other. Everything else goes the ordinary way; there is no mode to come back from.

    memo        one such response, and what of it changes
    heads       what of a request's header says nothing about its answer
    onlookers   who else needs to see hits: while somebody does, there is no fast lane
    fast        what was remembered, and whether it still holds
"""
