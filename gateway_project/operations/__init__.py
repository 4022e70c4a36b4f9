"""What operators do with a whole deployment: back it up, restore it, ask what is wrong with it. It is a Django app only
because of its commands."""
