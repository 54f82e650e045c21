"""
Numbers and charts from stored events.

``counting`` and ``cohorts`` ask the database, ``numbers`` are the values, ``charts`` and ``page`` show them. Readers are
counted, never events: told twice, late, in another order or under another id, an event changes no number.
"""
