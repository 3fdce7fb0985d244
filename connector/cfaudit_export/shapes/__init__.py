"""Exported events in the words of others: one table of columns and fields for each shape, and SQL that is made of it.

field  a field, and the SQL of a nested value
cim    Splunk's Common Information Model
ocsf   Open Cybersecurity Schema Framework
view   the name of a shape -> a view over what is stored
"""
