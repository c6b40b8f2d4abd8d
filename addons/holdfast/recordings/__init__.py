"""Recordings as files: how one is written and read (`form`), the folder of them (`folder`), who writes (`recorder`).

`coding` takes the content codings off a body, within bounds. Nothing here knows of flows; all but `Recorder.put` may
block, and is called from threads.
"""
