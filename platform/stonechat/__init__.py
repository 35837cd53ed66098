"""Stonechat: a self-hostable, multi-tenant platform for AI chat on other people's web sites."""

__version__ = "0.1.0"
