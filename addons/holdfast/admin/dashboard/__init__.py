"""The page to look at: `GET /` on the control surface, made here, without a script in it.

    minutes     (holdfast.policy) what became of the requests of the last hour
    chart       those as bars, and the words beside them
    looking     what a person has chosen to see: the query of the page
    wording     times, text and bodies as the page shows them
    session     what a browser holds instead of the token: signed by this process, and only for these pages
    html_page   what all pages share: who may see them, their header fields, what a form must bring
    overview    `/`
    captures    lists of captures, one of them, and having it sent again
    purging     forgetting what the cache has
    signing_in  the token for a session, and the end of one
    routes      where the pages are

Nothing of a request gets onto a page but through `wording.shown`, which the templates call by themselves.
"""
