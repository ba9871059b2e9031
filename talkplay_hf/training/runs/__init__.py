"""What a run needs beside the training itself: where it starts, what it keeps, where it reports."""

# what is best unless a recipe says otherwise
METRIC = "eval_conversations_loss"
