"""A small pretrained encoder that comes with tfft, as `package:tfft/tiny`: see README.md beside this file."""
