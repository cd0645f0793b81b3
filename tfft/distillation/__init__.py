"""A student learns from a teacher: a larger model of the same labels, or any encoder where text has none.

- `starts`: the embeddings of a student with new weights, as much like its teacher's as its width allows
- `losses`: how far a student is from its teacher, in logits, hidden states, sentences, attention scores and relations
- `teachers`: finds a teacher, looks whether it fits, and gives its logits of all rows, computed once
- `matching`: a training step in which the teacher is asked for what is inside it
"""
