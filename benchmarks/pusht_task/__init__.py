"""PushT for this package: the human demonstrations as a bag, the contract, and rollouts in gym-pusht."""
