"""The API reference: an OpenAPI document, and the page that displays it."""
