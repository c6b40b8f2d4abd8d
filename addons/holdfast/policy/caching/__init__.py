"""The rules of an HTTP cache (RFC 9111 and its neighbours), as pure functions.

    directives   what Cache-Control and its targeted relatives say
    dates        HTTP dates, and what passes for one
    storing      whether a response may be kept
    freshness    how long it may be used, and how old it is
    reuse        whether a stored response answers a request: fresh, stale, to be validated, not at all
    validation   conditional requests in both directions, and what a 304 changes
    ranges       parts of a stored response
    vary         which of several stored responses is meant
    key          what identifies a resource
    invalidation what an unsafe request makes unusable
    tags         surrogate keys
    status       what Cache-Status says

Header fields are sequences of (name, value) in bytes, in order, as they came. Times are epoch seconds.
"""
