# The stage release: leave build mode, say what that meant.
leave
json=''
text did "$did"
printf '{%s}\n' "${json%, }"
