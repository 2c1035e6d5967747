"""Side-by-side measurements of mail servers on the loopback; `bench/README.md` says how and why."""
