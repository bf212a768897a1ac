_patches_of_flavour() {
  echo "-$_flavour" > localversion.90-flavour
}
