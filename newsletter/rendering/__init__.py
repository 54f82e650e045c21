"""
Edition in, Rendered out: one path from a stored snapshot to the bytes that are proofed and sent.

``engine`` renders, ``origins`` says which template line a piece of MJML came from, ``lint`` reads the
templates themselves, ``proof`` reads the final bytes.
"""
