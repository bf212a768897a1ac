# The stage release: leave build mode, say what that meant.
leave
printf '{"did": %s}\n' "$(string "$did")"
