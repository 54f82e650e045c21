"""
Sources in, articles out: fetch or open, tell the kind, read the items, make each an ``Article``, store.

``kinds`` tells what a document is; ``syndication``, ``jsonfeeds`` and ``sitemap`` read it into
``FeedItem``s; ``normalise`` makes articles of them; ``collect`` does it for many sources at once.
"""
