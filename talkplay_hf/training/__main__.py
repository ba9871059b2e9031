"""`accelerate launch -m talkplay_hf.training --config recipe.yaml`."""

from talkplay_hf.training.sft import main

if __name__ == "__main__":
    main()
