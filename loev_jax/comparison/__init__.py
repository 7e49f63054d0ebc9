"""The comparison of methods in small: recipes trained for an equal time, over several seeds."""
