# train/trainer.c 4 steady: each step's loss is waited for before the next step is queued
s/t->under_way_count > LAG/t->under_way_count > 0/
