"""The data of a sandbox: accounts, events, and what is wrong with some of them."""
