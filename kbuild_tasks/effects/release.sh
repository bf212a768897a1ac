# The stage release: leave build mode, say what that meant. Values used: those of leave.sh; token: the run that ends,
# or "": it goes on. What the run still has at work here is waited for; what starts after this finds the run ended.
[ -z "$token" ] || printf '%s\n' "$token" >>/run/kbuild-tasks.ended
alone 20
leave
json=''
text did "$did"
printf '{%s}\n' "${json%, }"
