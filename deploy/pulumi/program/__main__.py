"""The program of every stack: what sites share, or one site."""

from lockstep_pulumi.program import main

main()
