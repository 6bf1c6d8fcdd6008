"""Attribution: whose time an iteration was, in which phase, and what the loop waited for."""
