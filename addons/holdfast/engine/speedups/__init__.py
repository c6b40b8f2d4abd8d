"""Parts of `engine.speed`: each does what mitmproxy does, with less work, and nothing else.

- `inline`: a connection's events and hooks without a task for each, and what goes out at once in one write.
- `layers`: a layer's commands in one loop, and no pause where there is nothing to wait for.
- `feeding`: bytes are dealt with where they arrive, and not by the task that waits for them.
- `idle`: mitmproxy's own addons that have nothing to do are not asked.
- `fields`: header fields are looked up without a walk through five classes.
- `values`: what is read again and again is not copied, checked or listed each time.
- `replacing` puts such functions in the place of mitmproxy's.
"""
