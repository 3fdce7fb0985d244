"""Rules, and what they find in exported events.

shipped   the rules that come with the program: one record each
own       rules of the user: files of SQL
load      settings -> the rules that count
scan      events -> what rules look at, read once: the table `seen`
hits      what each rule matches
context   what speaks for a match: a new address, failed sign-ins before
findings  hits and context -> findings, the worst first
"""
