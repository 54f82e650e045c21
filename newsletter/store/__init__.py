"""Records: the schema on one page (``tables``), connections and migrations (``session``)."""
