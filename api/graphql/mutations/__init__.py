"""Everything that can be changed, each as the commands it becomes."""

import strawberry

from api.graphql.folders.mutations import FolderMutations
from api.graphql.images.mutations import ImageMutations
from api.graphql.mutations.groups import GroupMutations
from api.graphql.mutations.policies import PolicyMutations
from api.graphql.mutations.tenants import TenantMutations
from api.graphql.mutations.users import UserMutations


@strawberry.type
class Mutation(TenantMutations, UserMutations, PolicyMutations, GroupMutations, ImageMutations, FolderMutations):
    pass
