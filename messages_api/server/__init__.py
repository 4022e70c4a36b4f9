"""The ASGI side: a request from the socket, its body, its errors and headers, and pages of lists."""
