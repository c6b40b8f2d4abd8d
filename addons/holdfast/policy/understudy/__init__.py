"""The rules of recordings: what is recorded, under which name, which one answers, and what the answer says of itself.

- `key`: what tells one recording from another, and the names of files made from it.
- `model`: a recording, and which header fields are part of one.
- `recordable`: why an answer of the upstream's is not recorded.
- `choosing`: which recording stands in for another request of its route.
- `answer`: what the client gets.
"""
