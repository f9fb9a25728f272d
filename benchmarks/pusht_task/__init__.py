"""PushT: human demonstrations as a bag, the contract, and rollouts in gym-pusht."""
