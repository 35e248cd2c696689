# verl: a dataset class that masks by a policy. bash examples/verl.sh path/to/model
torchrun --standalone --nproc_per_node=1 -m verl.trainer.sft_trainer \
  model.path="$1" \
  data.train_files=examples/chats.jsonl \
  data.custom_cls.path=pkg://policy_engine.adapters.verl \
  data.custom_cls.name=PolicySFTDataset \
  +data.policy=examples/chat.policy \
  data.max_length=2048 \
  data.train_batch_size=8
