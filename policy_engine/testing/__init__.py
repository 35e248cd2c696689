"""To test policies and chat templates with: Hypothesis strategies (`strategies`) and the generators behind them."""
