"""`holdfast top`: a running gateway at a glance.

    scrape      one answer of /metrics, as figures by name and labels
    history     the scrapes of the last minute: rates, lines and quantiles, whatever restarts meanwhile
    frame       what is shown, as plain records: also the JSON of `--json`
    model       from what was read to a frame
    wording     figures as people read them
    sections    each part of the view: a title, a summary, rows
    view        the sections on a terminal of any size
    reading     asks the control surface beside the view, so that nothing waits for it
    screen      the terminal: the alternate screen, keys, and how it is left

Everything but `reading` and `screen` is pure: no clock, no I/O.
"""
