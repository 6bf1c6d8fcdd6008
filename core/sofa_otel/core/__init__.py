"""What two rooms share: the data model, the names, and the forms in which both cross a wire or a disk.

Nothing here reads the world, decides anything or draws anything. Every other room imports core; core imports no room.
"""
