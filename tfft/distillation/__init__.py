"""A student learns from a teacher: a larger model that was trained for the same labels.

- `losses`: how far a student is from its teacher, in logits, hidden states, attention scores and relations
- `teachers`: finds a teacher, looks whether it fits, and gives its logits of all rows, computed once
- `matching`: a training step in which the teacher is asked for what is inside it
"""
