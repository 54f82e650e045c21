"""The editor's preview: every newsletter and variant as it will be sent, live, with orders from the page."""

from newsletter.web.preview.app import create_preview, free_port

__all__ = ["create_preview", "free_port"]
