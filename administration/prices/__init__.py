"""The pages of the price book: list prices beside own ones, and what a call costs an owner."""
