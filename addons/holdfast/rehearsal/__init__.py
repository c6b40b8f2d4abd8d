"""Plays the tests that a profile carries: its own chain, scripted servers, a real client, all in one process.

- `clock`: time that can be moved, for the chain and for the event loop that it runs on.
- `standins`: the profile as it is played: scripted servers for its servers, a temporary folder for its files.
- `servers`: what the servers do, attempt after attempt; `client`: the one that asks.
- `stage`: a chain on mitmproxy, from its start to its end, and what it tells of requests.
- `playing`: case by case, step by step; `judging`: what was to come of it against what came.
- `report`: for people, as JSON, and as JUnit XML.
"""
