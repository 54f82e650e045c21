"""
Who gets what: subscribers and their subscriptions with consent, segments, suppression, link tokens.

``addresses`` normalises, ``tokens`` signs links, ``segments`` compiles rules to SQL, ``imports`` and
``exports`` move lists, ``subscribers`` is what happens to one of them.
"""
