"""How people sign in to pages: passwords, second factors, passkeys, single sign-on, sessions (docs/sign-in.md).

django-allauth has the steps of a sign-in and the tables. Only processes that serve pages import this package's modules.
"""
