"""The program of every stack: the parts that sites share, or one site."""

from lockstep_pulumi.program import main

main()
