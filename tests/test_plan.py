"""Being written by the helper for models, callbacks, hardware, plan and scoring."""
