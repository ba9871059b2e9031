"""`accelerate launch -m talkplay_hf.training --config recipe.yaml`."""

import sys

from talkplay_hf.errors import TalkPlayError
from talkplay_hf.training.sft import main

if __name__ == "__main__":
    try:
        main()
    except TalkPlayError as error:
        print(f"talkplay_hf.training: {error}", file=sys.stderr)
        sys.exit(2)
