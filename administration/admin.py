"""Django's admin imports this module after those of the other apps. Each module that it imports adds its pages."""
