# case 2: SystemExit before anything is computed
# expect: F
raise SystemExit(0)
